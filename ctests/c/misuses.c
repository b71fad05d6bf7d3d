/* A library with faults, to be preloaded: its connect writes behind a block of memory, loses the block, and writes to
 * one place from all threads. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static char shared[256];
/* Volatile, so that the compiler can leave nothing out. */
static volatile size_t size = sizeof shared;
static char *volatile lost;

int connect(int fd, const struct sockaddr *to, socklen_t length) {
    lost = malloc(size);
    lost[size] = 1;
    memset(shared, fd, size);
    return ((int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect"))(fd, to, length);
}
