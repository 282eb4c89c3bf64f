// SPDX-License-Identifier: Apache-2.0

// Package fence, in builds with the tag forcegc, makes memory inaccessible when C frees it: code
// that touches it ends the program at that place, on every run. It is only for tests, and for Linux
// with glibc.
package fence
