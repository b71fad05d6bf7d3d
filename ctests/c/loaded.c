/* loaded: prints "version=V", that of the libldmesh.so it was started with; fails where there is none. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

int main(void) {
    const char *(*version)(void);
    *(void **)&version = dlsym(RTLD_DEFAULT, "ldmesh_version");
    return !version || printf("version=%s\n", version()) < 0;
}
