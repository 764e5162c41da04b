// A user's C++ program: the headers are C++ too.
#include <clformer/clformer.h>
#include <cstdio>
#include <cstring>

int main() {
    int n = 0;
    clf_device_info info[16];
    if (clf_devices(info, 16, &n) != CLF_OK || n < 1) return 1;
    std::printf("clformer %s, %d devices\n", clf_version(), n);
    return std::strcmp(clf_version(), CLF_VERSION_STRING) != 0;
}
