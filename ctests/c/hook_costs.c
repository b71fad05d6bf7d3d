/* hook_costs time|count VIP NAME FOREIGN: what the hooks cost beside libc's own calls. The program is the endpoint of
 * every service itself: it listens at port 8080 of each of its addresses.
 *
 * time: a line for each case: its name, nanoseconds through the hook, of libc's call alone, and of the difference, each
 * a median. Both are called in turn, so that what the machine does otherwise hits both.
 * count: under callgrind, the instructions of some calls through the hook, as a dump of the case's name. */
#include "address.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <valgrind/callgrind.h>

enum { ROUNDS = 1000, COUNTED = 100 };

static int (*libc_connect)(int, const struct sockaddr *, socklen_t);
static int (*libc_getaddrinfo)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
static int (*libc_getsockopt)(int, int, int, void *, socklen_t *);

enum { ENDPOINTS = 3 };
static struct address vip, endpoints[ENDPOINTS], foreign, loopback;
static const char *vip_digits, *mesh_name;
/* A socket that is connected: libc's connect of it is one system call that changes nothing (EISCONN). */
static int connected_fd;
/* The socket of this call; made before it and closed after it. */
static int fresh_fd, listener;

/* libc refuses it before it asks anybody, and after the hooks have looked the name up. */
static const struct addrinfo refused = {.ai_family = AF_INET, .ai_socktype = 77};
static const struct addrinfo stream = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};

static void require(bool holds, const char *what) {
    if (holds) return;
    perror(what);
    exit(1);
}

static void make_fresh(void) {
    struct linger at_once = {.l_onoff = 1};
    fresh_fd = open_socket(&vip, 0);
    /* No TIME_WAIT: there are thousands of them. */
    setsockopt(fresh_fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

static void end_fresh(void) {
    int accepted = accept(listener, NULL, NULL);
    require(accepted >= 0, "accept");
    close(accepted);
    close(fresh_fd);
}

#define CONNECT(function, fd, to) function(fd, (const void *)&(to).storage, (to).length)

static void foreign_hook(void) { CONNECT(connect, connected_fd, foreign); }
static void foreign_libc(void) { CONNECT(libc_connect, connected_fd, foreign); }
static void loopback_hook(void) { CONNECT(connect, connected_fd, loopback); }
static void loopback_libc(void) { CONNECT(libc_connect, connected_fd, loopback); }
static void mesh_hook(void) { require(CONNECT(connect, fresh_fd, vip) == 0, "connect to the VIP"); }
static void mesh_libc(void) {
    static unsigned int turn;
    /* As the hook does: the kernel remembers a destination. */
    const struct address *endpoint = &endpoints[turn++ % ENDPOINTS];
    require(CONNECT(libc_connect, fresh_fd, *endpoint) == 0, "connect to the endpoint");
}

static void ask_option(int level, int name, socklen_t length) {
    unsigned long value;
    libc_getsockopt(connected_fd, level, name, &value, &length);
}

/* What the hook asks of a socket beside its connect. */
static void questions(void) {
    ask_option(IPPROTO_TCP, TCP_USER_TIMEOUT, sizeof(int));
    ask_option(SOL_SOCKET, SO_COOKIE, sizeof(long));
    ask_option(IPPROTO_TCP, TCP_FASTOPEN_CONNECT, sizeof(int));
    struct sockaddr_storage local;
    socklen_t length = sizeof local;
    getsockname(connected_fd, (void *)&local, &length);
}

/* What it does beside to give a blocking connect the cluster's connect timeout, where there is another endpoint. */
static void bounds(void) {
    int timeout = 10000;
    fcntl(connected_fd, F_GETFL);
    setsockopt(connected_fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
    ask_option(SOL_SOCKET, SO_COOKIE, sizeof(long));
    setsockopt(connected_fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
}

#define RESOLVE(function, name, hints)                                  \
    do {                                                                \
        struct addrinfo *list = NULL;                                   \
        if (function(name, "80", &(hints), &list) == 0) freeaddrinfo(list); \
    } while (0)

static void digits_hook(void) { RESOLVE(getaddrinfo, "192.0.2.1", stream); }
static void digits_libc(void) { RESOLVE(libc_getaddrinfo, "192.0.2.1", stream); }
static void unknown_hook(void) { RESOLVE(getaddrinfo, "no-such-name.example.com", refused); }
static void unknown_libc(void) { RESOLVE(libc_getaddrinfo, "no-such-name.example.com", refused); }
static void name_hook(void) { RESOLVE(getaddrinfo, mesh_name, stream); }
static void name_libc(void) { RESOLVE(libc_getaddrinfo, vip_digits, stream); }

static void two_checks(void) {
    struct stat checked;
    stat("/etc/hosts", &checked);
    stat("/etc/resolv.conf", &checked);
}

static void nothing(void) {}

struct cost {
    const char *name;
    void (*hook)(void), (*libc)(void);
    /* So many calls between two looks at the clock. */
    int calls;
    void (*before)(void), (*after)(void);
};

static const struct cost COSTS[] = {
    {"connect, not of the mesh", foreign_hook, foreign_libc, 100, nothing, nothing},
    {"connect, loopback", loopback_hook, loopback_libc, 100, nothing, nothing},
    {"connect, of the mesh", mesh_hook, mesh_libc, 1, make_fresh, end_fresh},
    {"getaddrinfo, digits", digits_hook, digits_libc, 100, nothing, nothing},
    {"getaddrinfo, not of the mesh", unknown_hook, unknown_libc, 20, nothing, nothing},
    {"getaddrinfo, of the mesh", name_hook, name_libc, 20, nothing, nothing},
};

/* What the system calls beside a real one cost by themselves. */
static const struct cost SYSTEM_CALLS[] = {
    {"4 system calls: a socket's questions", questions, nothing, 100, nothing, nothing},
    {"4 system calls: connect timeout", bounds, nothing, 100, nothing, nothing},
    {"2 system calls: hosts, resolv.conf", two_checks, nothing, 100, nothing, nothing},
};

static double clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}

static double timed(const struct cost *cost, void (*call)(void)) {
    cost->before();
    double start = clock_ns();
    for (int i = 0; i < cost->calls; i++) call();
    double end = clock_ns();
    cost->after();
    return (end - start) / cost->calls;
}

static int by_value(const void *a, const void *b) {
    double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

static double median(double *values) {
    qsort(values, ROUNDS, sizeof *values, by_value);
    return values[ROUNDS / 2];
}

static void time_costs(const struct cost *costs, size_t count) {
    static double hook[ROUNDS], libc[ROUNDS], added[ROUNDS];
    for (const struct cost *cost = costs; cost < costs + count; cost++) {
        for (int i = -ROUNDS / 10; i < ROUNDS; i++) {
            /* The first rounds warm up; who comes first changes. */
            double first = timed(cost, i % 2 ? cost->hook : cost->libc);
            double second = timed(cost, i % 2 ? cost->libc : cost->hook);
            if (i < 0) continue;
            hook[i] = i % 2 ? first : second;
            libc[i] = i % 2 ? second : first;
            added[i] = hook[i] - libc[i];
        }
        printf("%s\t%.0f\t%.0f\t%.0f\n", cost->name, median(hook), median(libc), median(added));
    }
}

static void count_costs(void) {
    for (size_t nth = 0; nth < sizeof COSTS / sizeof *COSTS; nth++) {
        const struct cost *cost = COSTS + nth;
        for (int i = -COUNTED; i < COUNTED; i++) {
            cost->before();
            if (i == 0) CALLGRIND_ZERO_STATS;
            if (i >= 0) CALLGRIND_START_INSTRUMENTATION;
            cost->hook();
            if (i >= 0) CALLGRIND_STOP_INSTRUMENTATION;
            cost->after();
        }
        char name[128];
        snprintf(name, sizeof name, "hooks/%s x%d", cost->name, COUNTED);
        CALLGRIND_DUMP_STATS_AT(name);
    }
}

static void *of_libc(const char *name) {
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    void *found = libc ? dlsym(libc, name) : NULL;
    require(found != NULL, name);
    return found;
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    vip_digits = argv[2];
    mesh_name = argv[3];
    vip = address_of(vip_digits, "80");
    foreign = address_of(argv[4], "443");
    loopback = address_of("127.0.0.1", "9");
    for (int nth = 0; nth < ENDPOINTS; nth++) {
        char digits[] = "127.0.1.1";
        digits[sizeof digits - 2] += nth;
        endpoints[nth] = address_of(digits, "8080");
    }
    *(void **)&libc_connect = of_libc("connect");
    *(void **)&libc_getaddrinfo = of_libc("getaddrinfo");
    *(void **)&libc_getsockopt = of_libc("getsockopt");

    struct address any = address_of("0.0.0.0", "8080");
    listener = open_socket(&any, 0);
    require(bind(listener, (void *)&any.storage, any.length) == 0 && listen(listener, 64) == 0, "listen");
    connected_fd = open_socket(&endpoints[0], 0);
    require(CONNECT(libc_connect, connected_fd, endpoints[0]) == 0, "connect to myself");
    require(accept(listener, NULL, NULL) >= 0, "accept");
    /* The endpoints are asked for and there. */
    name_hook();

    if (!strcmp(argv[1], "count")) {
        count_costs();
    } else {
        time_costs(COSTS, sizeof COSTS / sizeof *COSTS);
        time_costs(SYSTEM_CALLS, sizeof SYSTEM_CALLS / sizeof *SYSTEM_CALLS);
    }
    return 0;
}
