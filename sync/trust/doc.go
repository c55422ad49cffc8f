// Package trust is the OpenPGP side of devices: the key of the user, the records of devices that it certifies, the keys of others that are known here, and what the web of trust (package wot) says of
// them. It decides nothing about membership: whether a device may read or write a drive, the drive's members log says, and one yes of a person is needed for each. What is derived here is a suggestion,
// with its reason.
package trust
