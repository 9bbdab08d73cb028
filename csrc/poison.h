// What scratch holds until it is written: read before, it shows.
#pragma once

#include <cstdint>
#include <limits>

namespace spotfast {

constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();
constexpr int32_t kNowhere = std::numeric_limits<int32_t>::max();  // an index beyond every end

}  // namespace spotfast
