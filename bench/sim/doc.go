// Package sim runs a drive on several devices and places in one process, in virtual time, by schedules that are drawn from
// seeds, while places fail and lie, devices crash, are wiped or set back, and clocks are wrong. The devices are whole drives of
// package sheaf on databases, journals and buckets in memory; nothing of them is a model. It is no part of the product.
package sim
