// Package davbench lets one client of WebDAV do the same work at sheaf's door, at rclone's server and at Apache's, in turns, and prints
// what each took, and the ratios. It is a test, so that servers are ended whatever happens: make davbench.
package davbench
