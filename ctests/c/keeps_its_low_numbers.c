/* keeps_its_low_numbers FILE NAME PORT: started with descriptors 0 to 2 closed, visits a few times; then the next
 * three files it opens must get 0 to 2. FILE gets "numbers=0,1,2 visit=". */
#include "visit.h"
#include <fcntl.h>

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    char line[64];
    const char *outcome = "none";
    for (int i = 0; i < 5; i++) outcome = visit(argv[2], argv[3], line);
    int first = open("/dev/null", O_RDWR), second = open("/dev/null", O_RDWR);
    int third = open(argv[1], O_CREAT | O_WRONLY | O_TRUNC, 0644);
    dprintf(third, "numbers=%d,%d,%d visit=%s\n", first, second, third, outcome);
    return 0;
}
