/* time_exec COUNT LIBRARY|- PROGRAM ARGUMENT...: runs a program COUNT times, preloaded or not, with its
 * output thrown away; prints "median_us=N failed=N". */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int by_value(const void *left, const void *right) {
    long a = *(const long *)left, b = *(const long *)right;
    return (a > b) - (a < b);
}

static long now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    int count = atoi(argv[1]), failed = 0;
    long *took = calloc(count, sizeof *took);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    if (strcmp(argv[2], "-")) setenv("LD_PRELOAD", argv[2], 1);
    for (int i = 0; i < count; i++) {
        pid_t child;
        int status;
        long start = now_us();
        if (posix_spawn(&child, argv[3], &actions, NULL, argv + 3, environ)) return 1;
        if (waitpid(child, &status, 0) != child) return 1;
        took[i] = now_us() - start;
        failed += status != 0;
    }
    qsort(took, count, sizeof *took, by_value);
    printf("median_us=%ld failed=%d\n", took[count / 2], failed);
    return 0;
}
