// Package davbench lets one client of WebDAV do the same work at sheaf's door, at rclone's server and at Apache's, in turns, and prints
// what each took, and the ratios; and what a file takes by the API, and by HTTP alone. It is a test, so that servers are ended whatever happens: make davbench.
package davbench
