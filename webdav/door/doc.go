// Package door listens on TCP for webdav and webdav/guard, with TLS or without. It knows no tree.
package door
