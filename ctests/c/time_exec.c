/* time_exec COUNT LIBRARY PROGRAM WITH WITHOUT ARGUMENT...: runs PROGRAM WITH ARGUMENT... preloaded and PROGRAM WITHOUT
 * ARGUMENT... not, in turn, COUNT times each, with its output thrown away. What else runs on the machine only ever adds:
 * prints the least and the median of both, "least_with_us=N median_with_us=N least_without_us=N median_without_us=N
 * failed=N". */
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
static posix_spawn_file_actions_t actions;
static int failed;

static int by_value(const void *left, const void *right) {
    long a = *(const long *)left, b = *(const long *)right;
    return (a > b) - (a < b);
}

static long now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static long run(char **command) {
    pid_t child;
    int status;
    long start = now_us();
    if (posix_spawn(&child, command[0], &actions, NULL, command, environ)) exit(1);
    if (waitpid(child, &status, 0) != child) exit(1);
    failed += status != 0;
    return now_us() - start;
}

int main(int argc, char **argv) {
    if (argc < 6) return 2;
    int count = atoi(argv[1]);
    long *with = calloc(count, sizeof *with), *without = calloc(count, sizeof *without);
    char *library = argv[2], **meshed = argv + 3, **plain = calloc(argc, sizeof *plain);
    plain[0] = argv[3], plain[1] = argv[5];
    memcpy(plain + 2, argv + 6, (argc - 6) * sizeof *plain);
    argv[5] = argv[4], argv[4] = argv[3], meshed++;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    for (int i = 0; i < count; i++) {
        setenv("LD_PRELOAD", library, 1);
        with[i] = run(meshed);
        unsetenv("LD_PRELOAD");
        without[i] = run(plain);
    }
    qsort(with, count, sizeof *with, by_value);
    qsort(without, count, sizeof *without, by_value);
    printf("least_with_us=%ld median_with_us=%ld least_without_us=%ld median_without_us=%ld failed=%d\n", with[0],
           with[count / 2], without[0], without[count / 2], failed);
    return 0;
}
