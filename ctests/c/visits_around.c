/* A library whose constructor and destructor visit the service $VISIT_NAME at $VISIT_PORT, in a thread of their own where
 * $VISIT_THREAD is set, and say whom they reached. */
#include "visit.h"
#include <pthread.h>

static void *said(void *when) {
    char line[64];
    dprintf(1, "%s=%s\n", (char *)when, visit(getenv("VISIT_NAME"), getenv("VISIT_PORT"), line));
    return NULL;
}

static void visit_and_say(char *when) {
    pthread_t thread;
    if (!getenv("VISIT_THREAD")) said(when);
    else if (!pthread_create(&thread, NULL, said, when)) pthread_join(thread, NULL);
}

__attribute__((constructor)) static void start(void) { visit_and_say("constructor"); }
__attribute__((destructor)) static void end(void) { visit_and_say("destructor"); }
