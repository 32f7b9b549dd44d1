/*
 * Preloaded into user-mode Linux on processors whose extended state is larger than it knows.
 *
 * User-mode Linux 6.1 keeps up to 2,696 bytes of it for each thread: AVX-512 and protection keys. With the tiles of AMX it
 * is 11,008 bytes, and PTRACE_SETREGSET takes it only whole; refused, user-mode Linux kills its first process. A process
 * that has not asked the host for AMX, and inside of user-mode Linux none can, has no tiles in use: their bits in the
 * header are clear, and nothing is read in their place. So what is missing is filled up.
 *
 * ptrace(2); Linux: arch/x86/kernel/fpu/regset.c (xstateregs_set), arch/x86/um/os-Linux/registers.c.
 */
typedef unsigned long size_t;
struct iovec {
  void *base;
  size_t length;
};
void *dlsym(void *handle, const char *name);
void *memcpy(void *to, const void *from, size_t length);

enum { GETREGSET = 0x4204, SETREGSET = 0x4205, NT_X86_XSTATE = 0x202 };

static char state[64 << 10];
static size_t length;

long ptrace(long request, long process, void *kind, void *data) {
  static long (*real)(long, long, void *, void *);
  if (!real) real = dlsym((void *)-1l /* RTLD_NEXT */, "ptrace");
  if (request != SETREGSET || kind != (void *)NT_X86_XSTATE) return real(request, process, kind, data);

  struct iovec *given = data, whole = {state, sizeof state};
  if (!length && real(GETREGSET, process, kind, &whole) == 0) length = whole.length;
  if (given->length >= length) return real(request, process, kind, data);
  memcpy(state, given->base, given->length);
  whole.length = length;
  return real(request, process, kind, &whole);
}
