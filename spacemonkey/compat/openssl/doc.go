// SPDX-License-Identifier: Apache-2.0

// Package openssl holds the headers of package compat. Its name is part of the #include lines.
package openssl
