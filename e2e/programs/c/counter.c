/* Counts like the job's counter, in C: "NUMBER NANOSECONDS", a line each EVERY microseconds (argument, 1000). Built static and dynamic. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t ended;

static void end(int sig) {
	(void)sig;
	ended = 1;
}

int main(int argc, char **argv) {
	long every = argc > 1 ? atol(argv[1]) : 1000, count = argc > 2 ? atol(argv[2]) : 0;
	struct timespec pause = {every / 1000000, every % 1000000 * 1000}, now;
	char line[64];
	signal(SIGTERM, end);
	for (long n = 1; !ended && (count == 0 || n <= count); n++) {
		if (clock_gettime(CLOCK_REALTIME, &now) != 0)
			return 3;
		int len = snprintf(line, sizeof line, "%ld %lld%09ld\n", n, (long long)now.tv_sec, now.tv_nsec);
		if (write(1, line, len) != len)
			return 3;
		nanosleep(&pause, NULL);
	}
	return ended ? 43 : 0;
}
