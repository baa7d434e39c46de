/* Works on an array of MIB MiB (argument, 16) with THREADS threads (argument, 2): each round adds 1 to every element and sums up, and the sum
 * must be what it has to be. "NUMBER NANOSECONDS THREADS", a line each round. OpenMP, dynamically linked. */
#include <omp.h>
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
	long mib = argc > 1 ? atol(argv[1]) : 16, threads = argc > 2 ? atol(argv[2]) : 2, count = argc > 3 ? atol(argv[3]) : 0;
	long size = mib * 1048576 / (long)sizeof(long);
	long *all = malloc(size * sizeof *all);
	struct timespec pause = {0, 20000000}, now;
	char line[80];
	if (all == NULL || size == 0)
		return 3;
	signal(SIGTERM, end);
	omp_set_num_threads((int)threads);
#pragma omp parallel for
	for (long i = 0; i < size; i++)
		all[i] = i;
	for (long n = 1; !ended && (count == 0 || n <= count); n++) {
		long sum = 0;
		int team = 0;
#pragma omp parallel
		{
#pragma omp single
			team = omp_get_num_threads();
#pragma omp for reduction(+ : sum)
			for (long i = 0; i < size; i++)
				sum += ++all[i] - i;
		}
		if (sum != n * size || team != threads) {
			fprintf(stderr, "AMISS: round %ld: sum %ld, not %ld; %d threads\n", n, sum, n * size, team);
			return 3;
		}
		clock_gettime(CLOCK_REALTIME, &now);
		int len = snprintf(line, sizeof line, "%ld %lld%09ld %d\n", n, (long long)now.tv_sec, now.tv_nsec, team);
		if (write(1, line, len) != len)
			return 3;
		nanosleep(&pause, NULL);
	}
	return ended ? 43 : 0;
}
