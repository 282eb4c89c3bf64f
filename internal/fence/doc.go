// SPDX-License-Identifier: Apache-2.0

// Package fence, in builds with the tag forcegc, takes memory that C has freed out of the process: whoever touches it
// ends the program at that place, on every run. It is for tests alone, and for Linux with glibc.
package fence
