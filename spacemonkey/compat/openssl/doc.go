// SPDX-License-Identifier: Apache-2.0

// Package openssl holds the headers of package compat, under the name by which they are included.
package openssl
