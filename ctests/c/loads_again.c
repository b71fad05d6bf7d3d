/* loads_again LIBRARY TIMES [thread]: loads a library and lets it go again, so many times; in a thread when told. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static char **arguments;

static void *load(void *unused) {
    (void)unused;
    for (int left = atoi(arguments[2]); left; left--) {
        void *library = dlopen(arguments[1], RTLD_NOW);
        if (!library || dlclose(library) || dlopen(arguments[1], RTLD_NOW | RTLD_NOLOAD)) {
            const char *why = dlerror();
            fprintf(stderr, "%s\n", why ? why : "still loaded");
            exit(1);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    arguments = argv;
    pthread_t thread;
    if (argc == 3) load(NULL);
    else if (pthread_create(&thread, NULL, load, NULL)) return 3;
    else pthread_join(thread, NULL);
    return 0;
}
