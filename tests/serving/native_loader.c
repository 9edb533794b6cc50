/* Runs a SavedModel through TensorFlow's own C++ loader, without Python.
 *
 * usage: native_loader SAVED_MODEL INPUT_TENSOR OUTPUT_TENSOR,... WORD...
 *
 * Feeds the words as one string tensor of shape [number of words] and prints
 * each output: first a line "TYPE SIZE...", then one line per element, strings
 * as hexadecimal bytes (they may hold anything). Tensors are named as in a
 * signature, "serving_default_word:0".
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tensorflow/c/c_api.h>
#include <tensorflow/c/tf_tensor.h>
#include <tensorflow/c/tf_tstring.h>

#define MOST_OUTPUTS 16

static void check(const TF_Status *status, const char *doing) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s: %s\n", doing, TF_Message(status));
  exit(1);
}

/* Finds "operation:index" in the graph. */
static TF_Output find_tensor(TF_Graph *graph, const char *name) {
  char operation[1024];
  TF_Output tensor = {NULL, 0};
  const char *colon = strrchr(name, ':');
  size_t length = colon ? (size_t)(colon - name) : strlen(name);
  if (length < sizeof operation) {
    memcpy(operation, name, length);
    operation[length] = '\0';
    tensor.oper = TF_GraphOperationByName(graph, operation);
    tensor.index = colon ? atoi(colon + 1) : 0;
  }
  if (tensor.oper == NULL) {
    fprintf(stderr, "The graph has no tensor %s\n", name);
    exit(1);
  }
  return tensor;
}

/* Finds all of "operation:index,operation:index"; cuts the text into pieces. */
static int find_tensors(TF_Graph *graph, char *names, TF_Output *tensors) {
  int count = 0;
  for (char *name = strtok(names, ","); name; name = strtok(NULL, ",")) {
    if (count == MOST_OUTPUTS) {
      fprintf(stderr, "There are more than %d outputs\n", MOST_OUTPUTS);
      exit(1);
    }
    tensors[count++] = find_tensor(graph, name);
  }
  return count;
}

static TF_Tensor *make_string_tensor(char **words, int count) {
  const int64_t shape[] = {count};
  TF_Tensor *tensor =
      TF_AllocateTensor(TF_STRING, shape, 1, count * sizeof(TF_TString));
  TF_TString *strings = TF_TensorData(tensor);
  for (int i = 0; i < count; i++) {
    TF_TString_Init(&strings[i]);
    TF_TString_Copy(&strings[i], words[i], strlen(words[i]));
  }
  return tensor;
}

static const char *type_name(TF_DataType type) {
  switch (type) {
    case TF_STRING: return "string";
    case TF_FLOAT: return "float32";
    case TF_INT32: return "int32";
    case TF_INT64: return "int64";
    default:
      fprintf(stderr, "Outputs of type %d are not printed here\n", type);
      exit(1);
  }
}

static void print_string(const TF_TString *string) {
  const char *bytes = TF_TString_GetDataPointer(string);
  size_t length = TF_TString_GetSize(string);
  for (size_t i = 0; i < length; i++) {
    printf("%02x", (unsigned char)bytes[i]);
  }
  printf("\n");
}

static void print_tensor(const TF_Tensor *tensor) {
  const TF_DataType type = TF_TensorType(tensor);
  const void *data = TF_TensorData(tensor);
  printf("%s", type_name(type));
  for (int axis = 0; axis < TF_NumDims(tensor); axis++) {
    printf(" %" PRId64, TF_Dim(tensor, axis));
  }
  printf("\n");
  for (int64_t i = 0; i < TF_TensorElementCount(tensor); i++) {
    switch (type) {
      case TF_STRING: print_string((const TF_TString *)data + i); break;
      case TF_FLOAT: printf("%.9g\n", ((const float *)data)[i]); break;
      case TF_INT32: printf("%" PRId32 "\n", ((const int32_t *)data)[i]); break;
      default: printf("%" PRId64 "\n", ((const int64_t *)data)[i]); break;
    }
  }
}

int main(int argument_count, char **arguments) {
  if (argument_count < 5) {
    fprintf(stderr, "usage: %s SAVED_MODEL INPUT OUTPUT,... WORD...\n",
            arguments[0]);
    return 2;
  }
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(
      options, NULL, arguments[1], tags, 1, graph, NULL, status);
  check(status, "Loading");

  const TF_Output input = find_tensor(graph, arguments[2]);
  TF_Output outputs[MOST_OUTPUTS];
  const int count = find_tensors(graph, arguments[3], outputs);
  TF_Tensor *words = make_string_tensor(arguments + 4, argument_count - 4);
  TF_Tensor *answers[MOST_OUTPUTS] = {NULL};
  TF_SessionRun(session, NULL, &input, &words, 1, outputs, answers, count, NULL,
                0, NULL, status);
  check(status, "Running");
  for (int i = 0; i < count; i++) {
    print_tensor(answers[i]);
    TF_DeleteTensor(answers[i]);
  }

  TF_DeleteTensor(words);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
