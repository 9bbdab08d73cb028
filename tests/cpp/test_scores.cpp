#include <cmath>
#include <cstring>
#include <vector>

#include "check.h"
#include "scores.h"

using namespace spotfast;

namespace {

std::vector<float> numbers(size_t count, float phase) {
    std::vector<float> result(count);
    for (size_t i = 0; i < count; ++i) result[i] = std::sin(phase + 1.7f * static_cast<float>(i));
    return result;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

// A pair's score is the plain loop's, wherever it stands: at the edges of panels, packs and groups of users.
TEST(scores_are_those_of_the_plain_loop) {
    for (const int64_t dim : {1, 3, 32, 33}) {
        for (const int64_t item_count : {1, 15, 16, 17, 515}) {
            const int64_t user_count = 7;
            const auto user_vectors = numbers(user_count * dim, 0.1f), item_vectors = numbers(item_count * dim, 0.2f);
            const auto user_biases = numbers(user_count, 0.3f), item_biases = numbers(item_count, 0.4f);
            const VectorsView users{user_vectors.data(), user_biases.data(), user_count};
            const VectorsView items{item_vectors.data(), item_biases.data(), item_count};
            std::vector<float> expected(user_count * item_count), out(expected.size(), NAN),
                pairs(expected.size(), NAN);
            std::vector<int64_t> user_index, item_index;
            for (int64_t u = 0; u < user_count; ++u) {
                for (int64_t i = 0; i < item_count; ++i) {
                    float sum = 0.0f;
                    for (int64_t d = 0; d < dim; ++d) sum += user_vectors[u * dim + d] * item_vectors[i * dim + d];
                    expected[u * item_count + i] = sum + user_biases[u] + item_biases[i];
                    user_index.push_back(u);
                    item_index.push_back(i);
                }
            }
            for (const int threads : {1, 3}) {
                scores(users, items, dim, threads, out.data());
                CHECK(same_bits(out, expected));
            }
            pair_scores(users, items, dim, user_index.data(), item_index.data(), pairs.size(), 2, pairs.data());
            CHECK(same_bits(pairs, expected));
        }
    }
}

TEST(biases_are_optional) {
    const auto vectors = numbers(4, 0.0f);
    const VectorsView view{vectors.data(), nullptr, 2};
    std::vector<float> out(4);
    scores(view, view, 2, 1, out.data());
    CHECK(out[1] == vectors[0] * vectors[2] + vectors[1] * vectors[3]);
}
