// The threads of the OpenMP that torch has loaded, where it is one that programs built with GCC can call.
//
// Its threads spin for some milliseconds after their last work. While they do, threads of our own would find no core:
// between two operations of torch, work must be done by the same threads.
#pragma once

namespace spotfast {

// Calls work(argument) on up to `threads` threads at once, the caller's among them; returns when all calls have. Where
// there is no such OpenMP, and in a forked process, whose copy of it has lost its threads, returns false: nothing was
// called.
bool run_on_openmp(int threads, void (*work)(void*), void* argument);

}  // namespace spotfast
