/* lookup_async MODE NOTIFY NAME...: one getaddrinfo_a of all names, IPv4, port 80 ("-" is a null entry). MODE: wait or
 * nowait; NOTIFY: none, signal or thread. Waits for the end as it was asked to be told of it. Prints "code=N told=N"
 * (how often it was told), then "NAME=CODE:ADDRESS,.. cancel=CODE" each. */
#include "nameserver.h"
#include <netdb.h>
#include <semaphore.h>

#define NAMES 16
static sem_t told;

static void tell(union sigval value) {
    if (value.sival_int == 42) sem_post(&told);
}

static const char *name_of(int code) {
    return code == 0 ? "0" : code == EAI_NODATA ? "EAI_NODATA" : code == EAI_NONAME ? "EAI_NONAME"
         : code == EAI_ALLDONE ? "EAI_ALLDONE" : code == EAI_INPROGRESS ? "EAI_INPROGRESS"
         : code == EAI_SERVICE ? "EAI_SERVICE" : gai_strerror(code);
}

int main(int argc, char **argv) {
    if (argc < 4 || argc > 3 + NAMES) return 2;
    struct gaicb requests[NAMES] = {0}, *list[NAMES] = {0};
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    int count = argc - 3, wait = !strcmp(argv[1], "wait"), times = 0;
    for (int i = 0; i < count; i++) {
        const char *name = argv[3 + i];
        requests[i].ar_name = name, requests[i].ar_service = "80", requests[i].ar_request = &hints;
        if (!strncmp(name, "wrong:", 6)) requests[i].ar_name = name + 6, requests[i].ar_service = "no-such";
        list[i] = strcmp(name, "-") ? &requests[i] : NULL;
    }
    struct gaicb *before[NAMES];
    memcpy(before, list, sizeof list);
    sem_init(&told, 0, 0);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    start_nameserver();
    struct sigevent event = {.sigev_notify = SIGEV_NONE, .sigev_signo = SIGUSR1, .sigev_value = {.sival_int = 42}};
    if (!strcmp(argv[2], "signal")) event.sigev_notify = SIGEV_SIGNAL;
    if (!strcmp(argv[2], "thread")) event.sigev_notify = SIGEV_THREAD, event.sigev_notify_function = tell;
    int code = getaddrinfo_a(wait ? GAI_WAIT : GAI_NOWAIT, list, count, &event);
    struct timespec soon = {.tv_sec = 10}, moment = {.tv_nsec = 50000000};
    siginfo_t info;
    if (!wait && event.sigev_notify == SIGEV_SIGNAL) {
        if (sigtimedwait(&signals, &info, &soon) == SIGUSR1) times += info.si_value.sival_int == 42;
        times += sigtimedwait(&signals, &info, &moment) == SIGUSR1;
    } else if (!wait && event.sigev_notify == SIGEV_THREAD) {
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_sec += 10;
        times += !sem_timedwait(&told, &soon);
        nanosleep(&moment, NULL);
        times += !sem_trywait(&told);
    } else {
        while (gai_suspend((void *)list, count, &soon) == 0) {
            int pending = 0;
            for (int i = 0; i < count; i++) pending += list[i] && gai_error(list[i]) == EAI_INPROGRESS;
            if (!pending) break;
        }
    }
    printf("code=%d told=%d asked=%d list=%s\n", code, times, asked,
           memcmp(before, list, sizeof list) ? "changed" : "unchanged");
    for (int i = 0; i < count; i++) {
        if (!list[i]) continue;
        printf("%s=%s:", argv[3 + i], name_of(gai_error(list[i])));
        for (struct addrinfo *one = requests[i].ar_result; one; one = one->ai_next) {
            char text[INET_ADDRSTRLEN];
            struct sockaddr_in *address = (void *)one->ai_addr;
            inet_ntop(AF_INET, &address->sin_addr, text, sizeof text);
            printf("%s%s", one == requests[i].ar_result ? "" : ",", text);
        }
        printf(" cancel=%s\n", name_of(gai_cancel(list[i])));
        if (requests[i].ar_result) freeaddrinfo(requests[i].ar_result);
    }
    return 0;
}
