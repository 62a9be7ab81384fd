/*
 * A library that is loaded before the C library's: system calls that do what they may do and rarely do.
 *
 * ODD_READS=1: reads and writes of files do a part of what was asked.
 * ODD_CLOCK=SECONDS: the time of day is so much later.
 * ODD_JUMPS=SECONDS: it jumps so far ahead, back to where it was, and so far behind, over and over.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define CALLS_BETWEEN_JUMPS 7
#define BLOCK 512

static unsigned long count;

#define NEXT(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

/* No file system gives less than a block of what is there, and no pipe takes less than it has room for. */
static size_t part(int fd, size_t size)
{
    struct stat status;

    if (size <= BLOCK || !getenv("ODD_READS") || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        return size;
    return BLOCK + (__sync_add_and_fetch(&count, 1) * 2654435761UL) % (size - BLOCK);
}

ssize_t read(int fd, void *to, size_t size)
{
    return NEXT(read)(fd, to, part(fd, size));
}

ssize_t write(int fd, const void *from, size_t size)
{
    return NEXT(write)(fd, from, part(fd, size));
}

ssize_t pread64(int fd, void *to, size_t size, off64_t at)
{
    return NEXT(pread64)(fd, to, part(fd, size), at);
}

ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at)
{
    return NEXT(pwrite64)(fd, from, part(fd, size), at);
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags)
{
    return NEXT(copy_file_range)(from, from_at, to, to_at, part(from, size), flags);
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t size)
{
    return NEXT(sendfile64)(to, from, at, part(from, size));
}

static long later(void)
{
    const char *fixed = getenv("ODD_CLOCK"), *jumps = getenv("ODD_JUMPS");

    if (fixed)
        return atol(fixed);
    if (!jumps)
        return 0;
    switch (__sync_add_and_fetch(&count, 1) / CALLS_BETWEEN_JUMPS % 4) {
    case 1: return atol(jumps);
    case 3: return -atol(jumps);
    default: return 0;
    }
}

int clock_gettime(clockid_t clock, struct timespec *found)
{
    int done = NEXT(clock_gettime)(clock, found);

    if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        found->tv_sec += later();
    return done;
}

int gettimeofday(struct timeval *found, void *zone)
{
    int done = NEXT(gettimeofday)(found, zone);

    if (done == 0)
        found->tv_sec += later();
    return done;
}

time_t time(time_t *found)
{
    time_t now = NEXT(time)(NULL) + later();

    if (found)
        *found = now;
    return now;
}
