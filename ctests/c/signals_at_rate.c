/* signals_at_rate ADDRESS PORT: a timer at 10 kHz interrupts connects, lookups and getpeername for a second; every
 * tenth signal jumps out of what it interrupted. Afterwards a thread can still be cancelled. */
#include "address.h"
#include <netdb.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>

static sigjmp_buf back;
static volatile sig_atomic_t jumps, signals, inside;
static int may_jump;

static void on_alarm(int signal) {
    (void)signal;
    if (++signals % 10 == 0 && may_jump && inside) {
        jumps++;
        inside = 0;
        siglongjmp(back, 1);
    }
}

static void *forever(void *unused) {
    (void)unused;
    for (;;) pause();
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    struct address to = address_of(argv[1], argv[2]);
    may_jump = !strcmp(argv[3], "jump");
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {{0, 100}, {0, 100}};
    setitimer(ITIMER_REAL, &every, NULL);
    volatile int good = 0, bad = 0;
    for (volatile long end = now_ms() + 1000; now_ms() < end;) {
        volatile int fd = open_socket(&to, 0);
        if (!sigsetjmp(back, 1)) {
            struct sockaddr_storage peer;
            socklen_t length = sizeof peer;
            /* Only what is async-signal-safe may be jumped out of. */
            inside = 1;
            int refused = connect(fd, (void *)&to.storage, to.length) && errno != EINTR;
            if (!refused) getpeername(fd, (void *)&peer, &length);
            inside = 0;
            if (refused) bad++; else good++;
        }
        close(fd);
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *list;
        if (!getaddrinfo("greeter", "80", &hints, &list)) freeaddrinfo(list);
    }
    memset(&every, 0, sizeof every);
    setitimer(ITIMER_REAL, &every, NULL);
    int state = -1;
    struct address last = to;
    int fd = connected(&last);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
    pthread_t thread;
    void *result = NULL;
    pthread_create(&thread, NULL, forever, NULL);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    printf("good=%d bad=%d signals=%d jumps=%d cancel=%s\n", good, bad, (int)signals, (int)jumps,
           state == PTHREAD_CANCEL_ENABLE && result == PTHREAD_CANCELED ? "enabled" : "disabled");
    print_greeting(fd);
    return 0;
}
