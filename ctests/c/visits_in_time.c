/* visits_in_time NAME PORT: for each line on standard input, visits a service; says the seconds of its wall clock and
 * of its monotonic one, and whom it reached. */
#include "visit.h"

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    char line[64], asked[16];
    while (fgets(asked, sizeof asked, stdin)) {
        const char *outcome = visit(argv[1], argv[2], line);
        printf("%ld %ld %s\n", (long)time(NULL), now_ms() / 1000, outcome);
    }
    return 0;
}
