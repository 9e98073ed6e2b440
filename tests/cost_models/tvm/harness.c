/* Calls a kernel compiled by TVM, without TVM's runtime: for emulated machines.
 *
 * Arguments: code:bits:elements of each tensor, in DLPack's terms. The tensors' contents come in through standard input
 * and go out, changed, through standard output.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <tvm/ffi/c_api.h>

enum { ALIGNMENT_BYTES = 64, MAX_TENSORS = 64 };

int __tvm_ffi_main(void *handle, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result);

/* The only symbol of the runtime that a kernel needs: the check of its arguments reports to it. */
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  fprintf(stderr, "%s: ", kind);
  for (int32_t i = 0; i < count; ++i) {
    if (parts[i]) fputs(parts[i], stderr);
  }
}

int main(int argc, char **argv) {
  static DLTensor tensors[MAX_TENSORS];
  static TVMFFIAny arguments[MAX_TENSORS];
  static int64_t elements[MAX_TENSORS];
  static size_t bytes[MAX_TENSORS];
  const int count = argc - 1;
  if (count > MAX_TENSORS) return 2;
  for (int i = 0; i < count; ++i) {
    int code, bits;
    if (sscanf(argv[i + 1], "%d:%d:%" SCNd64, &code, &bits, &elements[i]) != 3) return 2;
    bytes[i] = (size_t)elements[i] * bits / 8;
    void *data = aligned_alloc(ALIGNMENT_BYTES, (bytes[i] / ALIGNMENT_BYTES + 1) * ALIGNMENT_BYTES);
    if (!data || fread(data, 1, bytes[i], stdin) != bytes[i]) return 2;
    tensors[i].data = data;
    tensors[i].device.device_type = kDLCPU;
    tensors[i].ndim = 1;
    tensors[i].dtype.code = (uint8_t)code;
    tensors[i].dtype.bits = (uint8_t)bits;
    tensors[i].dtype.lanes = 1;
    tensors[i].shape = &elements[i];
    arguments[i].type_index = kTVMFFIDLTensorPtr;
    arguments[i].v_ptr = &tensors[i];
  }
  TVMFFIAny result = {0};
  if (__tvm_ffi_main(NULL, arguments, count, &result)) return 1;
  for (int i = 0; i < count; ++i) {
    if (fwrite(tensors[i].data, 1, bytes[i], stdout) != bytes[i]) return 2;
  }
  return 0;
}
