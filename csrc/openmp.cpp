#include "openmp.h"

#if defined(__linux__)
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#endif

namespace spotfast {

#if defined(__linux__)

namespace {

using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);

// Whether this process was forked, and runs no program of its own: OpenMP may have been at work before the fork, long
// before this was loaded. The kernel notes it among the flags of a process.
bool is_forked() {
    constexpr unsigned kForkedNoExec = 0x40;
    char line[1024] = {};
    std::FILE* file = std::fopen("/proc/self/stat", "r");
    if (file == nullptr) return true;
    const bool read = std::fgets(line, sizeof line, file) != nullptr;
    std::fclose(file);
    const char* name_end = std::strrchr(line, ')');  // "pid (name) state parent group session terminal its-group flags"
    unsigned flags = kForkedNoExec;
    if (!read || name_end == nullptr || std::sscanf(name_end + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) != 1)
        return true;
    return (flags & kForkedNoExec) != 0;
}

const pid_t kLoadedIn = is_forked() ? 0 : getpid();

}  // namespace

bool run_on_openmp(int threads, void (*work)(void*), void* argument) {
    // What `#pragma omp parallel` is compiled to. torch makes it visible to all libraries.
    static const auto parallel = reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    if (parallel == nullptr || getpid() != kLoadedIn) return false;
    parallel(work, argument, static_cast<unsigned>(threads), 0);
    return true;
}

#else

bool run_on_openmp(int, void (*)(void*), void*) { return false; }

#endif

}  // namespace spotfast
