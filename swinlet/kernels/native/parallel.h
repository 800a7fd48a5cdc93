// Work in numbered parts, on the threads that torch already has.

#pragma once

#include <atomic>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "interface.h"

namespace swinlet {

// Calls work(part) once for every part in [0, parts). Which thread takes which part is left to chance, so a result must
// not depend on it. Returns false if memory ran out in one of them.
template <class Work>
bool run_parts(int parts, int threads, SwinletParallel parallel, const Work& work) {
  struct Team {
    const Work& work;
    int parts;
    std::atomic<int> next{0};
    std::atomic<bool> failed{false};
    void run() {
      try {
        for (int part = next++; part < parts; part = next++) work(part);
      } catch (const std::bad_alloc&) {
        failed = true;
      }
    }
  } team{work, parts};
  const auto member = [](void* data) { static_cast<Team*>(data)->run(); };
  if (threads > parts) threads = parts;
  if (threads <= 1) {
    team.run();
  } else if (parallel != nullptr) {
    parallel(member, &team, static_cast<unsigned>(threads), 0);
  } else {
    std::vector<std::thread> others;
    try {
      for (int i = 1; i < threads; ++i) others.emplace_back(member, &team);
    } catch (const std::system_error&) {  // the system gives no more threads: those there are do the work
    }
    team.run();
    for (auto& other : others) other.join();
  }
  return !team.failed;
}

}  // namespace swinlet
