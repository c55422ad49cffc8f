// Package remotes compares what goes over the wire when a drive is brought to a server and back with what rclone (through
// crypt) and restic need for the same: wall time, requests and bytes. It has tests only.
package remotes
