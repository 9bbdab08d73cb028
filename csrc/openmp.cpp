#include "openmp.h"

#if defined(__linux__)
#include <dlfcn.h>
#include <unistd.h>
#endif

namespace spotfast {

#if defined(__linux__)

namespace {

using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);

const pid_t kLoadedIn = getpid();

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
