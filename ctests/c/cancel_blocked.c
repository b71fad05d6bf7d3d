/* cancel_blocked CALL TARGET: starts a thread in a call that blocks (connect or __connect to ADDRESS:PORT; a
 * getaddrinfo, gethostbyname* or res_* of NAME, a getnameinfo or gethostbyaddr* of ADDRESS:PORT, for which this program is
 * a nameserver that never answers), looks at its stack, and cancels it inside the call. Prints "frames=OFFSET,..."
 * (the call sites of libldmesh.so on that stack, as offsets into the file) and "cancelled=N cleanups=N". */
#include "address.h"
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <resolv.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unwind.h>

extern int __connect(int fd, const struct sockaddr *address, socklen_t length);

static const char *call, *target;
static struct address to;
static atomic_int thread_id;
static int cleanups, frames;
static sem_t looked;

static int is(const char *name) { return !strcmp(call, name); }

static void cleanup(void *unused) { (void)unused, cleanups++; }

/* A function of the resolver's, by its name: [__]res_[n]query, search, querydomain or send. */
static void query(const char *kind) {
    static struct __res_state state;
    unsigned char packet[512], answer[512];
    void *function = dlsym(RTLD_DEFAULT, call);
    int length = res_mkquery(QUERY, target, C_IN, T_A, NULL, 0, NULL, packet, sizeof packet);
    int with_state = *kind == 'n' && !res_ninit(&state);
    kind += with_state;
    if (!strcmp(kind, "send")) {
        int (*plain)(void *, int, void *, int) = function, (*stated)(void *, void *, int, void *, int) = function;
        if (with_state) stated(&state, packet, length, answer, sizeof answer);
        else plain(packet, length, answer, sizeof answer);
    } else if (!strcmp(kind, "querydomain")) {
        int (*plain)(const char *, const char *, int, int, void *, int) = function;
        int (*stated)(void *, const char *, const char *, int, int, void *, int) = function;
        if (with_state) stated(&state, target, "test", C_IN, T_A, answer, sizeof answer);
        else plain(target, "test", C_IN, T_A, answer, sizeof answer);
    } else {
        int (*plain)(const char *, int, int, void *, int) = function;
        int (*stated)(void *, const char *, int, int, void *, int) = function;
        if (with_state) stated(&state, target, C_IN, T_A, answer, sizeof answer);
        else plain(target, C_IN, T_A, answer, sizeof answer);
    }
}

static void *block(void *unused) {
    struct hostent entry, *found;
    char room[4096];
    int error, fd;
    struct addrinfo *list;
    struct sockaddr_in *v4 = (void *)&to.storage;
    pthread_cleanup_push(cleanup, NULL);
    thread_id = gettid();
    if (strstr(call, "res_")) query(strstr(call, "res_") + 4);
    if (is("connect")) fd = open_socket(&to, 0), connect(fd, (void *)&to.storage, to.length);
    if (is("__connect")) fd = open_socket(&to, 0), __connect(fd, (void *)&to.storage, to.length);
    if (is("getaddrinfo")) getaddrinfo(target, "80", NULL, &list);
    if (is("getnameinfo")) getnameinfo((void *)&to.storage, to.length, room, sizeof room, NULL, 0, 0);
    if (is("gethostbyname")) gethostbyname(target);
    if (is("gethostbyname2")) gethostbyname2(target, AF_INET);
    if (is("gethostbyname_r")) gethostbyname_r(target, &entry, room, sizeof room, &found, &error);
    if (is("gethostbyname2_r")) gethostbyname2_r(target, AF_INET, &entry, room, sizeof room, &found, &error);
    if (is("gethostbyaddr")) gethostbyaddr(&v4->sin_addr, sizeof v4->sin_addr, AF_INET);
    if (is("gethostbyaddr_r"))
        gethostbyaddr_r(&v4->sin_addr, sizeof v4->sin_addr, AF_INET, &entry, room, sizeof room, &found, &error);
    pthread_cleanup_pop(0);
    return unused;
}

/* Waits until the thread is in the system call that this call blocks in. */
static void wait_until_blocked(void) {
    long wanted = strstr(call, "connect") ? SYS_connect : SYS_poll, deadline = now_ms() + 10000;
    for (long number = -1; number != wanted; usleep(1000)) {
        char path[64], line[256] = "";
        snprintf(path, sizeof path, "/proc/self/task/%d/syscall", thread_id);
        FILE *file = fopen(path, "r");
        if (file && fgets(line, sizeof line, file) && line[0] >= '0' && line[0] <= '9') number = atol(line);
        if (file) fclose(file);
        if (now_ms() > deadline) {
            fprintf(stderr, "the thread is not blocked: %s", line);
            exit(1);
        }
    }
}

static _Unwind_Reason_Code frame(struct _Unwind_Context *context, void *unused) {
    (void)unused;
    /* The call is before the address it returns to. */
    char *site = (char *)_Unwind_GetIP(context) - 1;
    Dl_info info;
    if (dladdr(site, &info) && strstr(info.dli_fname, "libldmesh"))
        printf("%s%#lx", frames++ ? "," : "frames=", (long)(site - (char *)info.dli_fbase));
    return _URC_NO_REASON;
}

static void look(int signal) {
    (void)signal;
    _Unwind_Backtrace(frame, NULL);
    sem_post(&looked);
}

static void be_a_silent_nameserver(void) {
    struct address here = address_of("127.0.0.1", "53");
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (bind(fd, (void *)&here.storage, here.length)) {
        perror("bind");
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    call = argv[1], target = argv[2];
    char host[256], *port;
    snprintf(host, sizeof host, "%s", target);
    if ((port = strchr(host, ':'))) *port++ = 0;
    if (port) to = address_of(host, port);
    be_a_silent_nameserver();
    struct sigaction action = {.sa_handler = look, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    sem_init(&looked, 0, 0);
    pthread_t thread;
    void *result = NULL;
    if (pthread_create(&thread, NULL, block, NULL)) return 1;
    while (!thread_id) usleep(100);
    wait_until_blocked();
    pthread_kill(thread, SIGUSR1);
    sem_wait(&looked);
    wait_until_blocked();
    pthread_cancel(thread);
    pthread_join(thread, &result);
    printf("%scancelled=%d cleanups=%d\n", frames ? " " : "", result == PTHREAD_CANCELED, cleanups);
    return 0;
}
