/* Writes into the snapshot of a step that has ended, by a descriptor that the step handed to another:
 * "give" is the step, "take" the other one, and "wait" lets a third one end when it has been written.
 * With a second word it is a directory that is handed over, and a file of it that is written. */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int hand(int with, int fd) {
    char space[CMSG_SPACE(sizeof fd)] = {0}, byte = 0;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    if (fd < 0) {
        recvmsg(with, &message, 0);
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
        return fd;
    }
    CMSG_FIRSTHDR(&message)->cmsg_level = SOL_SOCKET;
    CMSG_FIRSTHDR(&message)->cmsg_type = SCM_RIGHTS;
    CMSG_FIRSTHDR(&message)->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &fd, sizeof fd);
    return sendmsg(with, &message, 0);
}

int main(int count, char **words) {
    struct sockaddr_un place = {.sun_family = AF_UNIX, .sun_path = "/c/socket"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), left = 400;
    char byte;
    alarm(30);
    if (words[1][0] == 'w') {
        while (access("/c/written", F_OK))
            usleep(20000);
        return 0;
    }
    if (words[1][0] == 'g') {
        bind(fd, (void *)&place, sizeof place);
        listen(fd, 1);
        fd = accept(fd, 0, 0);
        int file = open("/file", O_CREAT | O_RDWR, 0644);
        write(file, "original", 8);
        if (count > 2) {
            close(file);
            file = open("/", O_RDONLY | O_DIRECTORY);
        }
        hand(fd, file);
        return read(fd, &byte, 1) != 1;
    }
    while (connect(fd, (void *)&place, sizeof place) && left--)
        usleep(20000);
    int file = hand(fd, -1);
    write(fd, "x", 1);
    sleep(2); /* meanwhile the step has ended, and its file's content has become part of a key */
    if (count > 2)
        file = openat(file, "file", O_WRONLY | O_TRUNC);
    pwrite(file, "poisoned", 8, 0);
    return close(open("/c/written", O_CREAT | O_WRONLY, 0644));
}
