/* lookup_many NAME [canonname] [shuffled]: looks a name up and frees the list 10,000 times; "shuffled" frees it in two
 * parts, every other node first. Prints "nodes=N canon=NAME grown=KIB" (of the second half). */
#define _GNU_SOURCE
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long resident_kib(void) {
    long total, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld %ld", &total, &resident) != 2) exit(2);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void free_in_parts(struct addrinfo *list) {
    struct addrinfo *parts[2] = {NULL, NULL};
    for (int i = 0; list; i++) {
        struct addrinfo *next = list->ai_next;
        list->ai_next = parts[i % 2], parts[i % 2] = list, list = next;
    }
    for (int i = 0; i < 2; i++)
        if (parts[i]) freeaddrinfo(parts[i]);
}

int main(int argc, char **argv) {
    struct addrinfo hints = {0}, *list;
    int shuffled = 0, nodes = 0;
    long half = 0;
    char canon[256] = "-";
    if (argc < 2) return 2;
    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[i], "canonname")) hints.ai_flags |= AI_CANONNAME;
        if (!strcmp(argv[i], "shuffled")) shuffled = 1;
    }
    for (int i = 0; i < 10000; i++) {
        if (i == 5000) half = resident_kib();
        int code = getaddrinfo(argv[1], "80", &hints, &list);
        if (code) return fprintf(stderr, "%s\n", gai_strerror(code)), 1;
        nodes = 0;
        for (struct addrinfo *one = list; one; one = one->ai_next) nodes++;
        if (list->ai_canonname) snprintf(canon, sizeof canon, "%s", list->ai_canonname);
        if (shuffled) free_in_parts(list);
        else freeaddrinfo(list);
    }
    printf("nodes=%d canon=%s grown=%ld\n", nodes, canon, resident_kib() - half);
    return 0;
}
