#include "check.h"

int main() {
    for (const Test& test : all_tests()) test.run();
    std::printf("%zu C++ tests passed\n", all_tests().size());
    return all_tests().empty();
}
