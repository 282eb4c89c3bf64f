// SPDX-License-Identifier: Apache-2.0

//go:build spacemonkey && openssl_static

package spacemonkey

// Their package has this tag, too, but still links the shared libssl if there is one. Ours would
// then use that one. The compiler prints this name as the explanation.
var _ = spacemonkey_links_the_shared_libssl__leave_out_the_tag_openssl_static
