/* lookup_memory NAME COUNT: looks a name up COUNT times, with its canonical name, and frees the answers.
 * Prints "first_kib=N last_kib=N", the resident memory after the first tenth and at the end. */
#include "address.h"
#include <netdb.h>

static long resident_kib(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1) exit(1);
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_CANONNAME}, *list;
    long count = atol(argv[2]), first = 0;
    for (long i = 0; i < count; i++) {
        if (i == count / 10) first = resident_kib();
        if (getaddrinfo(argv[1], "80", &hints, &list)) return 1;
        freeaddrinfo(list);
    }
    printf("first_kib=%ld last_kib=%ld\n", first, resident_kib());
    return 0;
}
