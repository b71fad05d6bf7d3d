/* soak SECONDS THREADS SEED RETIRED SERVICE...: threads that look up, connect, fork, duplicate and close at random.
 *
 * A SERVICE is NAME=VIP=NET=LETTERS. Its endpoints are NET.N:8080 and call themselves NAME-N. Without letters no call
 * may fail; each letter allows one thing:
 *   n  a non-blocking connect may be refused    r  so may a blocking one
 *   t  a non-blocking connect may time out      h  every connect times out
 *   d  the connection may break later           b  every connection breaks before the name came
 *      (or, seldom, before connect returned)
 * RETIRED is a file of words, 16 a service: 0, or since when (CLOCK_BOOTTIME, ms) an endpoint is no longer in the set.
 * Prints "soaking"; in the end "count KIND SERVICE OUTCOME N" lines and "done", and holds its memory until standard
 * input ends. What must not be is told on stderr as it happens, and makes the exit status 1. */
#include "address.h"
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { SERVICES = 16, ENDPOINTS = 16, HELD = 8, OUTCOMES = 256, OUTDATED_MS = 10000, REAPED_MS = 40000 };
enum kind { GETADDRINFO, GETHOSTBYNAME, UNKNOWN, BLOCKING, NONBLOCKING, NAME, ECHO, PEER, FORK, KINDS };
static const char *const KIND[] = {"getaddrinfo", "gethostbyname_r", "unknown_name", "connect", "connect_nonblocking",
                                   "read_name",   "echo",            "getpeername",  "fork"};
/* Outcomes above errno's. */
enum { END = 200, ENDPOINT_PEER, EAI = 240 };

static struct service {
    char name[32], vip[32], net[32], letters[8];
} services[SERVICES];
static int service_count;
static const _Atomic uint64_t *retired;
/* Shared with the forked children. */
static _Atomic uint64_t (*counts)[SERVICES][OUTCOMES];
static _Atomic int *wrong;
static long ends;

struct random { uint64_t state; };

static uint64_t draw(struct random *r, uint64_t below) {
    r->state += 0x9e3779b97f4a7c15;
    uint64_t z = r->state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (z ^ z >> 31) % below;
}

static bool chance(struct random *r, int percent) { return draw(r, 100) < (uint64_t)percent; }

static long boot_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void pause_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static bool allows(const struct service *s, char letter) { return strchr(s->letters, letter); }

static int index_of(const struct service *s) { return s - services; }

static void count(enum kind kind, const struct service *s, int outcome) {
    atomic_fetch_add(&counts[kind][index_of(s)][outcome], 1);
}

/* What must not be; the first of them in full. */
static void complain(const char *format, ...) {
    if (atomic_fetch_add(wrong, 1) >= 40) return;
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int length = snprintf(line, sizeof line, "WRONG at %ld, process %d: ", boot_ms(), getpid());
    vsnprintf(line + length, sizeof line - length - 1, format, arguments);
    va_end(arguments);
    strcat(line, "\n");
    if (write(2, line, strlen(line)) < 0) _exit(3);
}

static void look_up(const struct service *s, struct random *r) {
    char name[128], text[INET6_ADDRSTRLEN] = "";
    snprintf(name, sizeof name, chance(r, 50) ? "%s" : "%s.default.svc.cluster.local", s->name);
    long began = boot_ms();
    if (chance(r, 50)) {
        struct addrinfo hints = {.ai_family = chance(r, 50) ? AF_INET : AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list;
        int code = getaddrinfo(name, "80", &hints, &list);
        count(GETADDRINFO, s, code ? EAI - code : 0);
        if (code) return complain("getaddrinfo(%s): %s after %ld ms", name, gai_strerror(code), boot_ms() - began);
        inet_ntop(AF_INET, &((struct sockaddr_in *)list->ai_addr)->sin_addr, text, sizeof text);
        if (list->ai_next || strcmp(text, s->vip)) complain("getaddrinfo(%s) gave %s", name, text);
        freeaddrinfo(list);
    } else {
        char buffer[1024];
        struct hostent entry, *found = NULL;
        int error = 0, code = gethostbyname_r(name, &entry, buffer, sizeof buffer, &found, &error);
        count(GETHOSTBYNAME, s, code || !found ? EAI + error : 0);
        if (code || !found) return complain("gethostbyname_r(%s): %d, h_errno %d", name, code, error);
        inet_ntop(AF_INET, entry.h_addr_list[0], text, sizeof text);
        if (entry.h_addr_list[1] || strcmp(text, s->vip)) complain("gethostbyname_r(%s) gave %s", name, text);
    }
}

/* The pod has no name server, so that is what a name which the mesh does not know must end in. */
static void look_up_unknown(void) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *list;
    int code = getaddrinfo("nobody.default.svc.cluster.local", "80", &hints, &list);
    count(UNKNOWN, &services[0], code ? EAI - code : 0);
    if (code != EAI_AGAIN) complain("getaddrinfo(nobody): %d", code);
}

/* Waits for a connect under way: its SO_ERROR, or EAGAIN when the program's own patience is over. */
static int awaited(int fd, int patience) {
    struct pollfd watched = {.fd = fd, .events = POLLOUT};
    int ready;
    while ((ready = poll(&watched, 1, patience)) < 0 && errno == EINTR) {}
    if (ready == 0) return EAGAIN;
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    return error;
}

/* The service's VIP; the endpoint's address where the record had to give way (seldom: the harness counts). */
static void check_peer(const struct service *s, int fd) {
    struct sockaddr_storage storage = {0};
    socklen_t length = sizeof storage;
    if (getpeername(fd, (void *)&storage, &length)) {
        /* The other side may have broken the connection. */
        bool broken = errno == ENOTCONN && (allows(s, 'd') || allows(s, 'b'));
        count(PEER, s, errno);
        if (!broken) complain("%s: getpeername: errno %d", s->name, errno);
        return;
    }
    char text[INET6_ADDRSTRLEN] = "";
    int port;
    if (storage.ss_family == AF_INET6) {
        struct sockaddr_in6 *v6 = (void *)&storage;
        inet_ntop(AF_INET, v6->sin6_addr.s6_addr + 12, text, sizeof text);
        port = ntohs(v6->sin6_port);
    } else {
        struct sockaddr_in *v4 = (void *)&storage;
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
        port = ntohs(v4->sin_port);
    }
    bool exact = !strcmp(text, s->vip) && port == 80;
    bool endpoint = !strncmp(text, s->net, strlen(s->net)) && port == 8080;
    count(PEER, s, exact ? 0 : ENDPOINT_PEER);
    if (!exact && !endpoint) complain("%s: the peer is %s:%d", s->name, text, port);
}

/* Reads a line; its length, or -1 with errno (END: the stream ended). */
static int read_line(int fd, char *line, int size) {
    int used = 0;
    while (used < size - 1) {
        struct pollfd watched = {.fd = fd, .events = POLLIN};
        if (poll(&watched, 1, 15000) == 0) return errno = EAGAIN, -1;
        ssize_t got = recv(fd, line + used, 1, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (got <= 0) return errno = got ? errno : END, -1;
        if (line[used] == '\n') break;
        used++;
    }
    line[used] = 0;
    return used;
}

static bool is_broken(int error) { return error == ECONNRESET || error == EPIPE || error == END; }

/* Who is at the other end: an endpoint of this service that was in its set lately. */
static bool check_name(const struct service *s, int fd, long began) {
    char line[64];
    if (read_line(fd, line, sizeof line) < 0) {
        int error = errno;
        count(NAME, s, error);
        bool expected = is_broken(error) && (allows(s, 'd') || allows(s, 'b'));
        if (!expected) complain("%s: no name: %d", s->name, error);
        return false;
    }
    count(NAME, s, 0);
    size_t length = strlen(s->name);
    int nth = strncmp(line, s->name, length) || line[length] != '-' ? 0 : atoi(line + length + 1);
    if (nth < 1 || nth >= ENDPOINTS || allows(s, 'b')) return complain("%s: reached %s", s->name, line), false;
    long since = atomic_load(&retired[index_of(s) * ENDPOINTS + nth]);
    if (since && began - since > OUTDATED_MS) complain("%s: %s left the set %ld ms ago", s->name, line, began - since);
    return true;
}

static void check_echo(const struct service *s, int fd) {
    char line[16];
    int error = send(fd, "ping\n", 5, MSG_NOSIGNAL) == 5 && read_line(fd, line, sizeof line) >= 0 ? 0 : errno;
    count(ECHO, s, error);
    if (!error && strcmp(line, "ping")) complain("%s: ping came back as %s", s->name, line);
    if (error && !(is_broken(error) && allows(s, 'd'))) complain("%s: echo: %d", s->name, error);
}

/* A connection to the service whose name was read, or -1. */
static int visit(const struct service *s, struct random *r) {
    char text[64];
    bool mapped = chance(r, 30), nonblocking = chance(r, 40);
    snprintf(text, sizeof text, mapped ? "::ffff:%s" : "%s", s->vip);
    struct address to = address_of(text, "80");
    int fd = socket(to.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0);
    if (fd < 0) return complain("socket: errno %d", errno), -1;
    struct timeval patience = {0, 700000};
    bool own_timeout = allows(s, 'h') && chance(r, 50);
    if (own_timeout) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    long began = boot_ms();
    int error = connect(fd, (void *)&to.storage, to.length) ? errno : 0;
    if (nonblocking && error == EINPROGRESS) error = awaited(fd, allows(s, 'h') || allows(s, 't') ? 700 : 15000);
    count(nonblocking ? NONBLOCKING : BLOCKING, s, error);
    bool is_fine = !error && !allows(s, 'h');
    if (error == ECONNREFUSED) is_fine = allows(s, 'r') || (nonblocking && allows(s, 'n'));
    /* Established, and reset before the program heard of it. */
    if (error == ECONNRESET) is_fine = allows(s, 'd') || allows(s, 'b');
    if (error == ETIMEDOUT) is_fine = allows(s, 'h');
    if (error == EAGAIN) is_fine = nonblocking && (allows(s, 'h') || allows(s, 't'));
    if (error == EINPROGRESS) is_fine = own_timeout;
    if (!is_fine)
        complain("%s: %sblocking connect to %s: errno %d after %ld ms", s->name, nonblocking ? "non-" : "", text, error,
                 boot_ms() - began);
    if (!error) check_peer(s, fd);
    if (!error && check_name(s, fd, began)) return fd;
    close(fd);
    return -1;
}

static const struct service *any(struct random *r) { return &services[draw(r, service_count)]; }

/* What a child does: it looks up, connects, perhaps has a child of its own. */
static void descend(struct random *r, int depth);

static void reap(pid_t child) {
    for (long began = boot_ms();; pause_ms(2)) {
        int status;
        pid_t got = waitpid(child, &status, WNOHANG);
        if (got == child) {
            if (status) complain("child %d ended with status %x", child, status);
            return;
        }
        if (got < 0 || boot_ms() - began > REAPED_MS) {
            complain("child %d hangs", child);
            kill(child, SIGABRT);
            waitpid(child, &status, 0);
            return;
        }
    }
}

static void fork_one(struct random *r, int depth) {
    struct random own = {draw(r, UINT64_MAX)};
    pid_t child = fork();
    if (child == 0) {
        descend(&own, depth);
        _exit(0);
    }
    count(FORK, &services[0], child < 0 ? errno : 0);
    if (child < 0) return complain("fork: errno %d", errno);
    reap(child);
}

static void descend(struct random *r, int depth) {
    for (int i = draw(r, 3); i >= 0; i--) {
        const struct service *s = any(r);
        look_up(s, r);
        int fd = visit(s, r);
        if (fd >= 0 && chance(r, 50)) check_echo(s, fd);
        /* Or exit closes it. */
        if (fd >= 0 && chance(r, 50)) close(fd);
    }
    if (depth < 2 && chance(r, 30)) fork_one(r, depth + 1);
}

struct held {
    int fd;
    const struct service *service;
};

static void handle(struct held *one, struct random *r) {
    switch (draw(r, 4)) {
    case 0: {
        /* Another number for the same connection. */
        int copy = fcntl(one->fd, F_DUPFD_CLOEXEC, 0);
        if (copy < 0) return complain("dup: errno %d", errno);
        close(one->fd);
        one->fd = copy;
        return check_peer(one->service, copy);
    }
    case 1:
        return check_echo(one->service, one->fd);
    default:
        close(one->fd);
        one->fd = -1;
    }
}

static void *live(void *seed) {
    struct random random = {(uintptr_t)seed}, *r = &random;
    struct held held[HELD];
    for (int i = 0; i < HELD; i++) held[i].fd = -1;
    while (boot_ms() < ends) {
        struct held *one = &held[draw(r, HELD)];
        int what = draw(r, 100);
        if (one->fd >= 0) handle(one, r);
        else if (what < 3) fork_one(r, 0);
        else if (what < 4) look_up_unknown();
        else if (what < 35) look_up(any(r), r);
        else {
            one->service = any(r);
            one->fd = visit(one->service, r);
        }
        pause_ms(draw(r, 200));
    }
    for (int i = 0; i < HELD; i++)
        if (held[i].fd >= 0) close(held[i].fd);
    return NULL;
}

static void *shared(size_t size) {
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static void report(void) {
    for (int kind = 0; kind < KINDS; kind++)
        for (int s = 0; s < service_count; s++)
            for (int outcome = 0; outcome < OUTCOMES; outcome++) {
                unsigned long number = counts[kind][s][outcome];
                if (!number) continue;
                const char *name = outcome == 0               ? "OK"
                                   : outcome == END           ? "END"
                                   : outcome == ENDPOINT_PEER ? "ENDPOINT"
                                                              : strerrorname_np(outcome);
                printf("count %s %s ", KIND[kind], services[s].name);
                if (outcome > EAI) printf("EAI-%d %lu\n", outcome - EAI, number);
                else printf("%s %lu\n", name ? name : "?", number);
            }
    printf("wrong %d\ndone\n", *wrong);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc < 6 || argc > 5 + SERVICES) return 2;
    int thread_count = atoi(argv[2]), file = open(argv[4], O_RDONLY | O_CLOEXEC);
    uint64_t seed = strtoull(argv[3], NULL, 10);
    retired = mmap(NULL, SERVICES * ENDPOINTS * 8, PROT_READ, MAP_SHARED, file, 0);
    counts = shared(sizeof(*counts) * KINDS);
    wrong = shared(sizeof *wrong);
    if (file < 0 || retired == MAP_FAILED || counts == MAP_FAILED || wrong == MAP_FAILED) return 2;
    close(file);
    for (int i = 5; i < argc; i++) {
        struct service *s = &services[service_count++];
        if (sscanf(argv[i], "%31[^=]=%31[^=]=%31[^=]=%7s", s->name, s->vip, s->net, s->letters) < 3) return 2;
    }
    ends = boot_ms() + atol(argv[1]) * 1000;
    pthread_t *threads = calloc(thread_count, sizeof *threads);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 << 10);
    for (int i = 0; i < thread_count; i++)
        if (pthread_create(&threads[i], &small, live, (void *)(uintptr_t)(seed + i * 1000003))) return 2;
    puts("soaking");
    fflush(stdout);
    for (int i = 0; i < thread_count; i++) pthread_join(threads[i], NULL);
    report();
    while (getchar() != EOF) {}
    return *wrong != 0;
}
