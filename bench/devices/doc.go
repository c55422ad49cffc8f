// Package devices lets several devices, each with a process and a mount of its own, write one drive at the same
// time, with nothing between them but a folder, and holds what they come to against what each of them was promised.
// It is no part of the product.
package devices
