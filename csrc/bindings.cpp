// The module. Only it and its parts, bindings_*.h, know Python. Shapes and ranges are checked in spotfast/ops; here
// only dtypes are (noconvert).
//
// All parts are compiled at once: pybind11's headers alone take 5 s of a compiler's time, and every file is compiled
// for two builds.
#include "bindings_arrays.h"
#include "bindings_interactions.h"
#include "bindings_ranking.h"
#include "bindings_row_update.h"
#include "bindings_sampling.h"
#include "bindings_sequences.h"
#include "bindings_training.h"

namespace {

// Whether this CPU can run the build with AVX2 and FMA.
bool cpu_has_avx2_fma() {
#if defined(__GNUC__) && defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

}  // namespace

PYBIND11_MODULE(SPOTFAST_MODULE, m) {
    using namespace spotfast::bindings;
    m.doc() = "C++ engine of spotfast. Called through spotfast.ops, which checks the arguments.";
    m.def("cpu_has_avx2_fma", &cpu_has_avx2_fma);
    def_sampling(m);
    def_interactions(m);
    def_ranking(m);
    def_training(m);  // before those who take its enumerations: docstrings have their names then
    def_sequences(m);
    def_row_update(m);
}
