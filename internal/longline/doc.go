// Package longline is a line between two network namespaces that is as long, as narrow and as bad as one wants. Programs at both ends need not know of it, whatever they speak. Linux only.
//
// The kernel's own (netem) is a module that many kernels lack. This one is a TUN device at each end, and this process carries the packets, of
// which it has 65,536 each way under way at most, in some 100 MB.
package longline
