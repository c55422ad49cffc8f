// Package mounttest is what every mounted folder has to pass: Run uses it as programs
// do, through the kernel, and knows nothing of what is mounted. It does not mount.
//
// It runs on Linux only, and it passes on ext4, which is the control that keeps it
// honest. What needs root is skipped for others. Locks and working directories are a
// matter between processes, so the test binary is started again as a child: the
// TestMain of whoever calls Run must call Child first.
//
// The folder must be served by another process than the one that calls Run. Run
// touches memory maps; while such an access waits for its page, the Go runtime cannot
// use that thread for anything else, and a server in the same process may be what the
// page waits for.
package mounttest
