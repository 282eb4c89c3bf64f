// SPDX-License-Identifier: Apache-2.0

#ifndef OSSLTEST_MEMORY_H
#define OSSLTEST_MEMORY_H

void ossltest_own_memory(void);
int ossltest_exempt(int on);

int ossltest_owns_memory(void);
void ossltest_fail(long nth, int forever, int everywhere, const char *file, const char *spared);
long ossltest_stop_failing(long *failed);
const char *ossltest_site(long i, int *line);
long ossltest_live_memory(int everywhere);
int ossltest_wipe(int on);

#endif
