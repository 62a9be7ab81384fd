/* greeter: answers every HTTP request with a greeting.
 *
 *   greeter           serve on $PORT (default 8080)
 *   greeter --probe   ask the service on $PORT, print its answer; status 1 if it is not well
 *   greeter --version
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION "dev"
#endif

static struct sockaddr_in address(in_addr_t host)
{
    const char *port = getenv("PORT");
    struct sockaddr_in a = {.sin_family = AF_INET};
    a.sin_port = htons((unsigned short)atoi(port ? port : "8080"));
    a.sin_addr.s_addr = htonl(host);
    return a;
}

static int probe(void)
{
    struct sockaddr_in a = address(INADDR_LOOPBACK);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    char answer[512];
    size_t have = 0;
    ssize_t n;
    static const char ask[] = "GET / HTTP/1.0\r\n\r\n";

    if (s < 0 || connect(s, (struct sockaddr *)&a, sizeof a) < 0 ||
        write(s, ask, sizeof ask - 1) < 0) {
        perror("greeter");
        return 1;
    }
    while (have < sizeof answer - 1 && (n = read(s, answer + have, sizeof answer - 1 - have)) > 0)
        have += (size_t)n;
    answer[have] = 0;
    const char *body = strstr(answer, "\r\n\r\n");
    if (strncmp(answer, "HTTP/1.0 200", 12) != 0 || !body) {
        fprintf(stderr, "greeter: unexpected answer\n");
        return 1;
    }
    fputs(body + 4, stdout);
    return 0;
}

static int serve(void)
{
    static const char greeting[] = "hello from greeter " VERSION "\n";
    struct sockaddr_in a = address(INADDR_ANY);
    int one = 1, s = socket(AF_INET, SOCK_STREAM, 0);
    char reply[256], request[1024];

    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) < 0 || listen(s, 16) < 0) {
        perror("greeter");
        return 1;
    }
    int size = snprintf(reply, sizeof reply,
                        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n"
                        "Content-Length: %zu\r\n\r\n%s",
                        sizeof greeting - 1, greeting);
    for (;;) {
        int c = accept(s, NULL, NULL);
        if (c < 0)
            continue;
        if (read(c, request, sizeof request) > 0 && write(c, reply, (size_t)size) < 0)
            perror("greeter");
        close(c);
    }
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    /* As process 1 of a container, signals without a handler are ignored. */
    signal(SIGTERM, _exit);
    signal(SIGINT, _exit);
    if (argc > 1 && strcmp(argv[1], "--version") == 0)
        return puts("greeter " VERSION) < 0;
    if (argc > 1 && strcmp(argv[1], "--probe") == 0)
        return probe();
    return serve();
}
