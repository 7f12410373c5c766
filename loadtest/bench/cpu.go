package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of CPU time in /proc: USER_HZ is 100 on all of Linux's ports that Go knows.
const tick = 10 * time.Millisecond

// cpuTimes is the CPU that each group of processes has used.
type cpuTimes struct {
	generator, system, postgres time.Duration
	// machine is what all processes of the machine have used.
	machine time.Duration
	// procKnown is false where there is no /proc: then postgres and machine are zero.
	procKnown bool
}

func (c cpuTimes) since(before cpuTimes) cpuTimes {
	return cpuTimes{
		generator: c.generator - before.generator, system: c.system - before.system,
		postgres: c.postgres - before.postgres, machine: c.machine - before.machine,
		procKnown: c.procKnown && before.procKnown,
	}
}

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// treeCPU is what a process, its children and those of them that have ended have used. It reads /proc,
// and returns false where that is not there.
func treeCPU(root int) (time.Duration, bool) {
	own, ok := readStat(root)
	if !ok {
		return 0, false
	}
	total := own.used + own.ofEnded
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, false
	}
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		if s, ok := readStat(pid); ok && s.parent == root { // one that has just ended is in ofEnded
			total += s.used
		}
	}
	return total, true
}

// stat is what /proc says about a process.
type stat struct {
	parent        int
	used, ofEnded time.Duration
}

// The fields of /proc/PID/stat after the name, which is in parentheses and may hold anything.
const (
	fieldParent = 1
	fieldUser   = 11
	fieldsMin   = 15
)

func readStat(pid int) (stat, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false
	}
	_, after, found := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(after)
	if !found || len(fields) < fieldsMin {
		return stat{}, false
	}
	var n [5]int64 // parent; user, system, and both of ended children
	for i, at := range []int{fieldParent, fieldUser, fieldUser + 1, fieldUser + 2, fieldUser + 3} {
		if n[i], err = strconv.ParseInt(fields[at], 10, 64); err != nil {
			return stat{}, false
		}
	}
	return stat{
		parent: int(n[0]), used: time.Duration(n[1]+n[2]) * tick, ofEnded: time.Duration(n[3]+n[4]) * tick,
	}, true
}

// idleFields are the fields of the first line of /proc/stat that are not work: idle and waiting for a disk.
// Those after steal are parts of the first two.
const (
	idleField, ioWaitField = 3, 4
	busyFields             = 8
)

// machineCPU is what the whole machine has used since it started, with what its host took from it.
func machineCPU() (time.Duration, bool) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, false
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(strings.TrimPrefix(line, "cpu "))
	if len(fields) < busyFields {
		return 0, false
	}
	var total time.Duration
	for i, field := range fields[:busyFields] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, false
		}
		if i != idleField && i != ioWaitField {
			total += time.Duration(n) * tick
		}
	}
	return total, true
}
