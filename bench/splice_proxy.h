// A SOCKS5 proxy that costs as little as one can: what lies before it is what is measured.
#ifndef OAKUM_BENCH_SPLICE_PROXY_H_
#define OAKUM_BENCH_SPLICE_PROXY_H_

#include "base/unique_fd.h"

namespace oakum::bench {

// Serves one client: no authentication, IPv4 addresses, bytes moved by splice(2) in both
// directions until both have ended.
void ServeSocks(UniqueFd client);

}  // namespace oakum::bench

#endif  // OAKUM_BENCH_SPLICE_PROXY_H_
