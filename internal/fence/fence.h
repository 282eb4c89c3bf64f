// SPDX-License-Identifier: Apache-2.0

#ifndef SSLCTX_FENCE_H
#define SSLCTX_FENCE_H

long fence_freed(void);
unsigned char fence_trespass(void);

#endif
