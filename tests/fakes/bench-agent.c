/*
 * The sandbox of the benchmark: called as bwrap is, it answers at once, outside of any sandbox.
 *
 * Its first act is to look at the clock. Every answer is two numbers, nanoseconds since 1970: when
 * the turn came (for the first: when this process began) and when the answer is written. It stays
 * until `_close`. Words in the prompt change what it does:
 *
 *   bench:sleep=MS   waits before it answers
 *   bench:flood=MB   writes so much without a frame before it answers
 *   bench:frames=N   so many frames with a session id and no text before it answers
 *   bench:texts=N    so many frames with a session id and a text before it answers
 *   bench:once       ends after the turn
 *   bench:leave      ends after the turn as soon as it is asked to
 *
 * Without arguments it writes when it began, and ends.
 *
 * In C for musl, since a start that ought to cost nothing costs 0.2 ms with it. Linked with glibc a
 * program, and with it every one in Rust, asks the processor what it is before it does anything
 * else, and on a virtual machine that takes 0.4 ms more.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

/* These are container/protocol's. */
#define IPC_INSIDE "/workspace/ipc"
#define OUTPUT_START "---NANOCLAW_OUTPUT_START---\n"
#define OUTPUT_END "\n---NANOCLAW_OUTPUT_END---\n"

static long long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void pause_us(long us) {
    struct timespec pause = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&pause, NULL);
}

static void put(const char *bytes, size_t count) {
    while (count > 0) {
        ssize_t written = write(STDOUT_FILENO, bytes, count);
        if (written < 0) {
            err(1, "standard output");
        }
        bytes += written;
        count -= (size_t)written;
    }
}

/* All that `fd` has to say, with a zero at its end. */
static char *read_all(int fd) {
    size_t size = 1 << 16, count = 0;
    char *text = malloc(size);
    for (;;) {
        if (text == NULL) {
            errx(1, "no memory");
        }
        ssize_t read_now = read(fd, text + count, size - 1 - count);
        if (read_now < 0) {
            err(1, "read");
        }
        if (read_now == 0) {
            text[count] = '\0';
            return text;
        }
        count += (size_t)read_now;
        if (count == size - 1) {
            size *= 2;
            text = realloc(text, size);
        }
    }
}

/* The number after `word`; 0 where the word is not there. */
static long number(const char *prompt, const char *word) {
    const char *at = strstr(prompt, word);
    return at == NULL ? 0 : strtol(at + strlen(word), NULL, 10);
}

/* A thousand frames at a time. */
static void frames(long count, const char *result) {
    char one[256];
    int length = snprintf(one, sizeof one,
                          OUTPUT_START "{\"status\":\"success\",\"result\":%s,"
                                       "\"newSessionId\":\"bench-session\",\"turnEnd\":false}" OUTPUT_END,
                          result);
    char *many = malloc((size_t)length * 1000);
    if (many == NULL) {
        errx(1, "no memory");
    }
    for (int n = 0; n < 1000; n++) {
        memcpy(many + n * length, one, (size_t)length);
    }
    for (long n = 0; n < count / 1000; n++) {
        put(many, (size_t)length * 1000);
    }
    free(many);
}

static void flood(long mb) {
    static char chunk[1000000];
    memset(chunk, 'x', sizeof chunk);
    for (long n = 0; n < mb; n++) {
        put(chunk, sizeof chunk);
    }
    /* A frame's marker stands alone on its line. */
    put("\n", 1);
}

static void turn(long long came, const char *prompt, const char *file) {
    long ms = number(prompt, "bench:sleep=");
    if (ms > 0) {
        /* To the microsecond: what it oversleeps would count as the program's. */
        prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
        pause_us(ms * 1000);
    }
    long mb = number(prompt, "bench:flood=");
    if (mb > 0) {
        flood(mb);
    }
    frames(number(prompt, "bench:frames="), "null");
    frames(number(prompt, "bench:texts="), "\"small\"");
    char consumed[NAME_MAX + 32] = "", frame[NAME_MAX + 512];
    if (file != NULL) {
        snprintf(consumed, sizeof consumed, ",\"consumed\":[\"%s\"]", file);
    }
    int length = snprintf(frame, sizeof frame,
                          OUTPUT_START "{\"status\":\"success\",\"result\":\"%lld %lld\","
                                       "\"newSessionId\":\"bench-session\",\"turnEnd\":true%s}" OUTPUT_END,
                          came, now(), consumed);
    put(frame, (size_t)length);
}

/* Not by inotify: the end of a process that watches takes the kernel up to 20 ms. The pauses
 * double, so that many who wait long do not take the processor from the program that is measured. */
static void wait_for_close(void) {
    for (long us = 50; access("_close", F_OK) != 0; us = us < 500 ? us * 2 : 1000) {
        pause_us(us);
    }
}

/* The first of the follow-ups by name; false where there is none. */
static int next_follow_up(char name[NAME_MAX + 1]) {
    name[0] = '\0';
    DIR *input = opendir(".");
    if (input == NULL) {
        err(1, "input folder");
    }
    for (struct dirent *entry; (entry = readdir(input)) != NULL;) {
        size_t length = strlen(entry->d_name);
        int is_one = length > 5 && strcmp(entry->d_name + length - 5, ".json") == 0;
        if (is_one && (name[0] == '\0' || strcmp(entry->d_name, name) < 0)) {
            strcpy(name, entry->d_name);
        }
    }
    closedir(input);
    return name[0] != '\0';
}

static void follow_ups(int events) {
    char name[NAME_MAX + 1], seen[4096];
    while (access("_close", F_OK) != 0) {
        if (!next_follow_up(name)) {
            if (read(events, seen, sizeof seen) < 0) {
                err(1, "inotify");
            }
            continue;
        }
        long long came = now();
        int fd = open(name, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            err(1, "%s", name);
        }
        /* The words stand for themselves wherever they are in the JSON. */
        char *text = read_all(fd);
        close(fd);
        unlink(name);
        turn(came, text, name);
        int is_last = strstr(text, "bench:once") != NULL;
        free(text);
        if (is_last) {
            return;
        }
    }
}

int main(int argc, char **argv) {
    long long began = now();
    if (argc == 1) {
        printf("%lld", began);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("bench-agent " RUNNER_VERSION);
        return 0;
    }
    /* bwrap's `--bind HOST INSIDE`. */
    const char *ipc = NULL;
    for (int n = 2; n < argc && ipc == NULL; n++) {
        ipc = strcmp(argv[n], IPC_INSIDE) == 0 ? argv[n - 1] : NULL;
    }
    if (ipc == NULL) {
        /* A trial. */
        return 0;
    }
    char *prompt = read_all(STDIN_FILENO);
    if (strstr(prompt, "bench:once") != NULL) {
        turn(began, prompt, NULL);
        return 0;
    }
    if (chdir(ipc) != 0 || chdir("input") != 0) {
        err(1, "%s/input", ipc);
    }
    if (strstr(prompt, "bench:leave") != NULL) {
        turn(began, prompt, NULL);
        wait_for_close();
        return 0;
    }
    int events = inotify_init1(IN_CLOEXEC);
    if (events < 0 || inotify_add_watch(events, ".", IN_MOVED_TO | IN_CREATE) < 0) {
        err(1, "inotify");
    }
    turn(began, prompt, NULL);
    follow_ups(events);
    return 0;
}
