// SPDX-License-Identifier: Apache-2.0

//go:build spacemonkey && openssl_static

package spacemonkey

// Their package has this tag too, and links the shared libssl in spite of it wherever there is one; ours would then
// take that. The compiler prints this name: it is the explanation.
var _ = spacemonkey_links_the_shared_libssl__leave_out_the_tag_openssl_static
