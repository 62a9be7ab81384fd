/* Closes sockets that linger while the builder holds a copy of them, which it takes to answer a
 * socketcall(2) of 32 bits: whoever closes the last copy waits for a peer that reads nothing. */
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

enum { TRIES = 150, PATIENCE_MS = 10000, SETSOCKOPT = 14, EBADF_I386 = -9 };
static int listening, one = 1, arguments[5];
static struct sockaddr_in place = {.sin_family = AF_INET};
static volatile int *answers; /* how many there were; [1]: the last one is EBADF */

static void *ask(void *nothing) {
    int result;
    do {
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(102), "b"(SETSOCKOPT),
                         "c"((unsigned)(unsigned long)arguments) : "memory", "r8", "r9", "r10", "r11");
        answers[0]++;
    } while (result != EBADF_I386);
    answers[1] = 1;
    return nothing;
}

static void attempt(int wait_us) {
    int small = 4096, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct linger linger = {1, 3600};
    static char data[65536];
    pthread_t thread;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    if (connect(fd, (void *)&place, sizeof place) || accept(listening, 0, 0) < 0)
        _exit(1);
    while (send(fd, data, sizeof data, MSG_DONTWAIT) > 0)
        ;
    int all[5] = {fd, SOL_SOCKET, SO_KEEPALIVE, (int)(unsigned long)&one, sizeof one};
    for (int i = 0; i < 5; i++)
        arguments[i] = all[i];
    pthread_create(&thread, 0, ask, 0);
    while (answers[0] < 2)
        usleep(10);
    usleep(wait_us);
    close(fd);
    pause();
}

int main(void) {
    int small = 2048;
    socklen_t size = sizeof place;
    answers = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listening = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listening, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    bind(listening, (void *)&place, size);
    getsockname(listening, (void *)&place, &size);
    listen(listening, 8);
    for (int i = 0; i < TRIES; i++) {
        answers[0] = answers[1] = 0;
        pid_t pid = fork();
        if (!pid)
            attempt(i * 7919 % 500);
        for (int ms = 0; !answers[1]; ms++) {
            if (ms > PATIENCE_MS) {
                puts(answers[0] > 1 ? "held" : "nobody answers");
                kill(pid, SIGKILL);
                return 1;
            }
            usleep(1000);
        }
        kill(pid, SIGKILL);
        waitpid(pid, 0, 0);
    }
    puts("nobody is held");
    return 0;
}
