// Package programs has the programs that tests stop and restore in containers: builds them, makes an image of them, and reads what they print.
//
// Most are sub-commands of one static Go program (package job below this one: burn, counter, files, listen, locks, pair, tmpfs, tty, volume,
// writer). Beside it stand C programs: counter-static, counter-dynamic, vforker, and omp, which is of OpenMP and linked
// dynamically.
package programs
