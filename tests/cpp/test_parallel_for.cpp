#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <vector>

#include "check.h"
#include "parallel_for.h"

using namespace spotfast;

TEST(every_index_is_visited_once) {
    for (const int64_t count : {0, 1, 7, 1000}) {
        for (const int threads : {1, 3, 16}) {
            std::vector<int> visits(count);
            parallel_for(count, threads, 3, [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) ++visits[i];
            });
            CHECK(visits == std::vector<int>(count, 1));
        }
    }
}

TEST(chunks_visit_every_index_once) {
    for (const int64_t count : {0, 1, 7, 1000}) {
        for (const int threads : {1, 3, 16}) {
            for (const int64_t least : {1, 40}) {
                std::vector<int> visits(count);
                std::atomic<int64_t> longest{0}, chunks{0};
                parallel_chunks(count, threads, least, 50, [&](int64_t begin, int64_t end) {
                    for (int64_t i = begin; i < end; ++i) ++visits[i];
                    int64_t most = longest;
                    while (end - begin > most && !longest.compare_exchange_weak(most, end - begin)) {
                    }
                    ++chunks;
                });
                CHECK(visits == std::vector<int>(count, 1));
                CHECK(longest <= 50 && chunks >= std::min<int64_t>(threads, count));
                if (count == 1000) CHECK(longest >= least);
            }
        }
    }
}

TEST(exceptions_of_any_part_arrive_after_all_have_ended) {
    for (const int64_t failing : {0, 99}) {
        std::vector<int> visits(100);
        bool caught = false;
        try {
            parallel_for(100, 4, 1, [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) {
                    ++visits[i];
                    if (i == failing) throw std::runtime_error("on purpose");
                }
            });
        } catch (const std::runtime_error&) {
            caught = true;
        }
        CHECK(caught && visits[50] == 1);
    }
}
