/* A wall clock that a test sets, for all processes that load this library before others.
 *
 * TEST_WALL_CLOCKS names a folder with a file for each service, and one called `others`, of eight
 * bytes: the seconds by which the wall clock is off, read at each look. Monotonic clocks run on, as those of a machine do whose clock is set. Waits until a
 * moment of the wall clock are handed to the kernel as the moment that is meant.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *off;

static int64_t seconds_off(void) { return off ? *off : 0; }

__attribute__((constructor)) static void map_the_file(void) {
    const char *folder = getenv("TEST_WALL_CLOCKS"), *service = getenv("GATHERING_SERVICE");
    char path[4096];
    if (!folder) return;
    snprintf(path, sizeof path, "%s/%s", folder, service ? service : "others");
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *found = mmap(NULL, sizeof *off, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) off = found;
    close(file);
}

static int is_wall(clockid_t clock) {
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

/* Monotonic clocks count from the machine's start: what is decades on is of the wall clock. */
static const struct timespec *meant(const struct timespec *until, struct timespec *shifted) {
    if (!until || until->tv_sec < 1000000000 - 86400) return until;
    *shifted = *until;
    shifted->tv_sec -= seconds_off();
    return shifted;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && is_wall(clock)) now->tv_sec += seconds_off();
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    (void)zone;
    struct timespec found;
    int failed = clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}

#define MEANT(name, subject)                                                     \
    int name(subject *which, const struct timespec *until) {                     \
        static int (*real)(subject *, const struct timespec *);                  \
        struct timespec shifted;                                                 \
        if (!real) real = dlsym(RTLD_NEXT, #name);                               \
        return real(which, meant(until, &shifted));                              \
    }
MEANT(sem_timedwait, sem_t)
MEANT(pthread_mutex_timedlock, pthread_mutex_t)

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock,
                           const struct timespec *until) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec shifted;
    if (!real) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    return real(cond, lock, meant(until, &shifted));
}

long syscall(long number, ...) {
    static long (*real)(long, ...);
    struct timespec shifted;
    long a[6];
    va_list given;
    va_start(given, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(given, long);
    va_end(given);
    if (!real) real = dlsym(RTLD_NEXT, "syscall");
    if (number == SYS_futex && a[1] & FUTEX_CLOCK_REALTIME)
        a[3] = (long)meant((const struct timespec *)a[3], &shifted);
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
